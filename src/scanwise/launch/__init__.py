"""Starting a fit elsewhere than in this process: in several processes here, or on SageMaker."""
