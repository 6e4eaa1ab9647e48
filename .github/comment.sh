#!/usr/bin/env bash
# Puts a file on a pull request as one comment, and updates it the next time.
#   REPOSITORY=owner/name NUMBER=1 GH_TOKEN=... comment.sh FILE
set -euo pipefail
file=$1
[ -s "$file" ] || { echo "nothing to say: $file is empty or missing"; exit 0; }
[[ "$NUMBER" =~ ^[0-9]+$ ]] || { echo "not a number of a pull request: $NUMBER" >&2; exit 2; }
marker='<!-- lra-bench check -->'

# A comment holds 65,536 characters; whole lines of a longer one.
body=$(mktemp)
trap 'rm -f "$body"' EXIT
awk 'BEGIN { left = 64000 } (left -= length($0) + 1) < 0 { exit } 1' "$file" > "$body"
cmp -s "$file" "$body" || printf '\n\nToo long for a comment: the rest is in the job summary.\n' >> "$body"

earlier=$(MARKER="$marker" gh api --paginate "repos/$REPOSITORY/issues/$NUMBER/comments" \
  --jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.MARKER))) | .id' | sed -n 1p)
if [ -n "$earlier" ]; then
  gh api --silent --method PATCH "repos/$REPOSITORY/issues/comments/$earlier" -F "body=@$body"
else
  gh api --silent --method POST "repos/$REPOSITORY/issues/$NUMBER/comments" -F "body=@$body"
fi
