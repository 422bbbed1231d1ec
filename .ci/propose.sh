#!/usr/bin/env bash
# Brings what `beatline retrain` has made from the job that made it to a pull or merge request.
#   pack      branches retrain/... and the reports on drift, into review/watch/
#   github    push the branches there, and open a pull request for each (GH_TOKEN, GITHUB_REPOSITORY)
#   gitlab    the same as a merge request (WATCH_TOKEN, CI_SERVER_HOST, CI_PROJECT_PATH, CI_API_V4_URL,
#             CI_PROJECT_ID)
set -euo pipefail
folder=review/watch
# Git and curl are given the token, which is in no command: every process can read those.
signed_in() {
  # shellcheck disable=SC2016  # the helper expands it, and not this
  git -c credential.helper= -c credential.helper='!f() { echo "password=${GH_TOKEN:-$WATCH_TOKEN}"; }; f' "$@"
}
is_there() { [ -n "$(signed_in ls-remote --heads "$1" "$2")" ]; }
branches() { git for-each-ref --format='%(refname:short)' 'refs/heads/retrain/'; }
# Those of the bundle: a runner that keeps its checkout has others of former nights.
packed() { git bundle list-heads "$folder/retrain.bundle" | sed -n 's|^[^ ]* refs/heads/||p'; }
# In any state: the branch of one that was merged may be gone.
requested() {
  local found
  found=$(printf 'header = "PRIVATE-TOKEN: %s"\n' "$WATCH_TOKEN" | curl --silent --show-error --fail --config - \
    --get --data-urlencode "source_branch=$1" --data state=all \
    "$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests") || exit
  [ "$found" != '[]' ]
}

if [ "$1" = pack ]; then
  mkdir -p "$folder"
  if [ -d reports/drift ]; then cp -r reports/drift "$folder/"; fi
  if [ -n "$(branches)" ]; then git bundle create "$folder/retrain.bundle" '--branches=retrain/*' ^HEAD; fi
  exit 0
fi

if [ ! -f "$folder/retrain.bundle" ]; then echo 'nothing is proposed'; exit 0; fi
git fetch --quiet "$folder/retrain.bundle" '+refs/heads/retrain/*:refs/heads/retrain/*'
packed | while read -r branch; do
  report=$(git show "$branch:reports/retraining/${branch#retrain/}/comparison.md")
  title=$(sed -n '1s/^# //p' <<<"$report")
  case $1 in
    github)
      url="https://x-access-token@github.com/$GITHUB_REPOSITORY.git"
      # Proposed before: it is the same proposal, which may have been closed. A branch may be there without a
      # request, if that could not be made.
      if [ -n "$(gh pr list --head "$branch" --state all --json number --jq '.[].number')" ]; then continue; fi
      is_there "$url" "$branch" || signed_in push --quiet "$url" "$branch"
      gh pr create --head "$branch" --title "$title" --body-file - <<<"$report" ;;
    gitlab)
      url="https://oauth2@$CI_SERVER_HOST/$CI_PROJECT_PATH.git"
      if requested "$branch" || is_there "$url" "$branch"; then continue; fi
      signed_in push --quiet "$url" "$branch" -o merge_request.create -o "merge_request.title=$title" \
        -o "merge_request.description=${report//$'\n'/<br>}" ;;
  esac
done
