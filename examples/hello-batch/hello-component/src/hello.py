"""Says hello to whoever reads the log of the job."""

import os

print("Hello from a pipeline component!")
print(f"I am the job {os.environ['AZUREML_RUN_ID']}.")
