"""Report: the average time on flyer per user, for BI tools and people."""
