"""Who does the tasks of a study: tasks with needs and an order, done by processes of this machine or by a cluster."""
