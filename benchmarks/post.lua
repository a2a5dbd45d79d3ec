-- wrk script: posts each line of $BENCH_BODIES in turn, with the header lines of $BENCH_HEADERS. Each answer becomes a
-- line of $BENCH_ANSWERS: its status and what $BENCH_PATTERN (a Lua pattern with one capture) finds in its body.
local requests, at, answers, pattern = {}, 0, nil, os.getenv("BENCH_PATTERN")

function init()
  local headers = { ["Content-Type"] = "application/json" }
  for name, value in os.getenv("BENCH_HEADERS"):gmatch("([%w-]+): ([^\n]+)") do headers[name] = value end
  for body in io.lines(os.getenv("BENCH_BODIES")) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
  answers = io.open(os.getenv("BENCH_ANSWERS"), "w")
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function response(status, _, body)
  answers:write(status, " ", pattern and body:match(pattern) or "", "\n")
end
