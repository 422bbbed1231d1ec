"""The commands that a person or CI types: `beatline <command>`. No stage imports them."""

ERRORS = {"drift": 3}  # exit statuses of errors, of commands whose 1 is an answer
