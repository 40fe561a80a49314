"""Files that attack whoever reads them: short functions make them, `test_attacks.py` shows what becomes of each."""
