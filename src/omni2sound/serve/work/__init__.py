"""What each kind of job does, through the library; nothing is generated here."""
