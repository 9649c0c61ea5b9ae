"""The peak hour of many clinics through the real functions on one machine, judged by the far sides."""
