"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Bad input: the command prints it as one line on standard error and exits with 2."""
