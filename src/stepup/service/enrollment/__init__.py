"""The wizard, reset codes and the account's toggle."""
