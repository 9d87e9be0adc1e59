"""Running jobs: the supervisor adopts them, a runner decides and orders for one of them."""
