"""Kafka: a product's trades, instruments and books in topics."""
