#!/bin/sh
# Post a file as a comment of the merge request, or update the comment that an earlier run posted.
# Needs REVIEW_TOKEN, a project access token with the scope `api` and the role Reporter, as a masked
# CI/CD variable. Forks have none, and a project may have none: the comparison is an artifact anyway.
set -eu
MARK='<!-- comparison with the base branch -->'

if [ -z "${REVIEW_TOKEN:-}" ]; then
  echo "No comment: REVIEW_TOKEN is not set. The comparison is in $1, among the job's artifacts."
  exit 0
fi
notes="$CI_API_V4_URL/projects/$CI_MERGE_REQUEST_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes"
api() {
  curl --fail --silent --show-error --header "PRIVATE-TOKEN: $REVIEW_TOKEN" "$@"
}
# Oldest first: the comment is written by the first run.
number=$(api "$notes?sort=asc&per_page=100" | python3 -c '
import json, sys
print(next((note["id"] for note in json.load(sys.stdin) if note["body"].startswith(sys.argv[1])), ""))
' "$MARK")
text=$(mktemp)
trap 'rm -f "$text"' EXIT
{ echo "$MARK"; cat "$1"; } > "$text"
if [ -n "$number" ]; then
  api --output /dev/null --request PUT --data-urlencode "body@$text" "$notes/$number"
else
  api --output /dev/null --request POST --data-urlencode "body@$text" "$notes"
fi
