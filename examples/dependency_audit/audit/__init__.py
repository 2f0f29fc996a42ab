"""What the dependency audit is made of; the pipeline that puts it together is in app.py beside this folder."""
