"""Everything that only a study needs: its graph, kinds of stage, report."""
