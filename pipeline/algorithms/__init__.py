"""Search algorithms behind one ask/tell object; neither Ray nor torch is imported here."""
