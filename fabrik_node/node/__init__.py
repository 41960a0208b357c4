"""The node: verify, persist, merge, publish. One writer; everything durable before anybody hears of it."""
