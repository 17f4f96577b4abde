"""An app of Django: relations are resolved within apps only."""
