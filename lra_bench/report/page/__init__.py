"""The page: one file with every table, figure and record; see `render.page`."""
