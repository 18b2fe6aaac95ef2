"""The gateway that integrators write: HTTP in, SQLite, MQTT out; one message per record, 100 in flight."""
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import paho.mqtt.client as mqtt

database, http_port, broker_port, topic, certificates = sys.argv[1:]
lock = threading.Lock()
store = sqlite3.connect(database, check_same_thread=False)
store.executescript(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
    "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, record BLOB NOT NULL);")


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock, store:
            store.executemany("INSERT INTO outbox (record) VALUES (?)", [(line,) for line in body.splitlines()])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", int(http_port)), Door).serve_forever, daemon=True).start()
received = threading.Semaphore(0)
client = mqtt.Client(client_id="in-house", clean_session=False)
client.on_publish = lambda *_: received.release()
client.tls_set(f"{certificates}/ca.crt", f"{certificates}/client.crt", f"{certificates}/client.key")
client.max_inflight_messages_set(100)
client.reconnect_delay_set(1, 2)
client.connect_async("127.0.0.1", int(broker_port), keepalive=30)
client.loop_start()
while True:
    with lock:
        rows = store.execute("SELECT number, record FROM outbox ORDER BY number LIMIT 100").fetchall()
    for _, record in rows:
        client.publish(topic, record, qos=1)
    for _ in rows:
        received.acquire()
    with lock, store:
        store.execute("DELETE FROM outbox WHERE number <= ?", (rows[-1][0] if rows else 0,))
    if not rows:
        time.sleep(0.1)
