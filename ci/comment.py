"""Puts a file into the one comment of this check on a pull request: `comment.py FILE`.

The file's first line is a hidden marker, by which the comment is found again and edited. Reads what GitHub Actions sets:
GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN; and PULL_REQUEST, its number.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

PAGE = 100


def call(method: str, path: str, body: dict | None = None):
    request = urllib.request.Request(
        f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ours(number: int, marker: str) -> int | None:
    """The comment that begins with the marker, and that a bot wrote: anybody may write the marker."""
    page = 1
    while True:
        comments = call("GET", f"issues/{number}/comments?per_page={PAGE}&page={page}")
        for comment in comments:
            if comment["body"].startswith(marker) and comment["user"]["type"] == "Bot":
                return comment["id"]
        if len(comments) < PAGE:
            return None
        page += 1


def main() -> int:
    body = Path(sys.argv[1]).read_text(encoding="utf-8")
    marker = body.splitlines()[0]
    number = int(os.environ["PULL_REQUEST"])
    try:
        known = ours(number, marker)
        if known is None:
            call("POST", f"issues/{number}/comments", {"body": body})
        else:
            call("PATCH", f"issues/comments/{known}", {"body": body})
    except urllib.error.HTTPError as error:
        # The verdict stands without a comment.
        print(f"::warning::the comment could not be written: {error.code} {error.reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
