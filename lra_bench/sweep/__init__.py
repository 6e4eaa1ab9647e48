"""Whole tables, unattended: what to run, in which order, and that none of it is lost or run twice."""
