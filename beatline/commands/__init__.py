"""What a person or CI types: `beatline <command>`. No stage imports it."""
