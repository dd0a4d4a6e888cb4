"""`make bench`: how long things take here and now. Nothing is asserted: a busy machine is no defect."""
