"""What a number of clinics needs: queueing model, simulation, sizes, first bottleneck, monthly cost."""
