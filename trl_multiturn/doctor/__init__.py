"""`trl-multiturn doctor`: takes one real batch through a run and says what would fail silently. Begin with `diagnosis.py`."""
