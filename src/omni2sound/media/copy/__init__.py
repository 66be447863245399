"""What a copied video holds beside its packets: tags, colour and projection data, subtitles."""
