"""Hand-over to an editor: broadcast WAV, a timeline with takes and stems, markers at onsets."""
