"""What makes compiled code: decorators, its cache, atomics and raw access to memory."""
