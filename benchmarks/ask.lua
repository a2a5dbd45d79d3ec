-- wrk script: sends the requests of $BENCH_REQUESTS in turn, one a line: "GET <path>" or "POST <path> <body in hex>".
-- $BENCH_PAUSE_MS: milliseconds that each connection waits before its next request. $BENCH_CLOSE: each request asks for the
-- end of its connection. Ends with a line of JSON.
local requests, at, pause = {}, 0, tonumber(os.getenv("BENCH_PAUSE_MS"))
local REPORT = '{"seconds": %.6f, "answers": %d, "bytes": %d, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "failed": %d}\n'

local function bytes(hex)
  return (hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

function init()
  for line in io.lines(os.getenv("BENCH_REQUESTS")) do
    local method, path, body = line:match("^(%u+) (%S+) ?(%x*)$")
    local headers = { ["Host"] = wrk.headers["Host"] }
    if os.getenv("BENCH_CLOSE") then headers["Connection"] = "close" end
    if method == "POST" then headers["Content-Type"] = "application/ocsp-request" end
    requests[#requests + 1] = wrk.format(method, path, headers, method == "POST" and bytes(body) or nil)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

if pause then
  function delay() return pause end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(REPORT:format(summary.duration / 1e6, summary.requests, summary.bytes, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, errors.status, failed))
end
