"""Measurements, each with an interval: distance between sets, adherence, PSNR, edges, order of convergence."""
