#!/usr/bin/env bash
# Brings what `beatline retrain` has made from the job that made it to a pull or merge request.
#   pack      branches retrain/... and the reports on drift, into review/watch/
#   github    push the branches there, and open a pull request for each (GH_TOKEN, GITHUB_REPOSITORY)
#   gitlab    the same as a merge request (WATCH_TOKEN, CI_SERVER_HOST, CI_PROJECT_PATH)
set -euo pipefail
folder=review/watch
branches() { git for-each-ref --format='%(refname:short)' 'refs/heads/retrain/'; }

if [ "$1" = pack ]; then
  mkdir -p "$folder"
  if [ -d reports/drift ]; then cp -r reports/drift "$folder/"; fi
  if [ -n "$(branches)" ]; then git bundle create "$folder/retrain.bundle" '--branches=retrain/*' ^HEAD; fi
  exit 0
fi

if [ ! -f "$folder/retrain.bundle" ]; then echo 'nothing is proposed'; exit 0; fi
git fetch --quiet "$folder/retrain.bundle" '+refs/heads/retrain/*:refs/heads/retrain/*'
branches | while read -r branch; do
  # Pushed before: it is the same proposal, which may have been closed.
  report=$(git show "$branch:reports/retraining/${branch#retrain/}/comparison.md")
  title=$(sed -n '1s/^# //p' <<<"$report")
  case $1 in
    github)
      url="https://x-access-token:$GH_TOKEN@github.com/$GITHUB_REPOSITORY.git"
      if [ -n "$(git ls-remote --heads "$url" "$branch")" ]; then continue; fi
      git push --quiet "$url" "$branch"
      gh pr create --head "$branch" --title "$title" --body-file - <<<"$report" ;;
    gitlab)
      url="https://oauth2:$WATCH_TOKEN@$CI_SERVER_HOST/$CI_PROJECT_PATH.git"
      if [ -n "$(git ls-remote --heads "$url" "$branch")" ]; then continue; fi
      git push --quiet "$url" "$branch" -o merge_request.create -o "merge_request.title=$title" \
        -o "merge_request.description=${report//$'\n'/<br>}" ;;
  esac
done
