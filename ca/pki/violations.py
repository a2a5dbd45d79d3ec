"""The one exception of ca.pki: a rule that a request or certificate breaks."""


class Violation(Exception):
    """`code` names the rule (camelCase, stable, part of the API), `detail` says what is wrong in a sentence without
    the requester's control characters, `where` is the place: "csr", "csr.subject", "names[2]", "csr.key", …"""

    def __init__(self, code: str, detail: str, where: str = "csr") -> None:
        super().__init__(f"{code} at {where}: {detail}")
        self.code, self.detail, self.where = code, detail, where
