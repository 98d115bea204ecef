"""The reference submission to the support-ticket challenge; as a folder it can be submitted as it is."""
