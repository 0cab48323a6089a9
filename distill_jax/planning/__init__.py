"""What a run needs and costs on devices that are not at hand.

In: a `job.Job` (the student's shape, a mesh, a batch) and a `devices.Device`. Out: a `plan.Plan` (memory,
matrix products, communication and time of a step on one device), or plans of the best meshes of N devices.
"""
