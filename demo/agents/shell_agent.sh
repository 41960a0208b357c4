#!/bin/sh
# An agent that is a few lines of shell: it writes the task into a file of the program, commits it, and says what it did.
set -eu
mkdir -p notes
cp "$FABRIK_PROMPT_FILE" "notes/$FABRIK_ITEM.md"
git add notes
git commit --quiet --message "Note: $FABRIK_TITLE"
echo "noted on $FABRIK_BRANCH"
