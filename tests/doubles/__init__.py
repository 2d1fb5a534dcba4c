"""Stand-ins that tests and measurements start: a camera over HTTP, an MQTT broker."""
