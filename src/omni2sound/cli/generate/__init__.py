"""`omni2sound generate`: options, one video or prompt, several videos."""
