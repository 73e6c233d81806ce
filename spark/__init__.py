"""The Spark job: the pending log folded into the state, and the reference number as a DataFrame function."""
