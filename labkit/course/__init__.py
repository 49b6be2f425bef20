"""The course as a student and a teacher meet it: copies of the notebooks, their form, the doctor, the command line."""
