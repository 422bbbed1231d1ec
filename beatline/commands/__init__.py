"""The commands that a person or CI types: `beatline <command>`. No stage imports them."""
