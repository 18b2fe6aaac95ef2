//! A configuration for Mosquitto 2 that lets in who has a certificate of our authority, and lets a
//! box touch its own topics only.

use std::net::SocketAddr;
use std::path::Path;

use crate::model::limits::MESSAGE_BYTES_MAX;

/// A packet is a message and its topic; generous, so that the box's own limit is the one that acts.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 32 * 1024;

pub struct Setup<'a> {
    /// Absolute: Mosquitto reads paths from wherever it was started.
    pub folder: &'a Path,
    pub listen: SocketAddr,
    /// Who owns the folder, and so can read the keys.
    pub user: Option<String>,
}

/// Who may touch which topics. `%u` is the common name of the client's certificate.
pub const ACCESS_LIST: &str = "\
# Quyền theo chủ đề / rights by topic. Do trucd init tạo / written by trucd init.
# Mỗi trạm chỉ chạm được chủ đề của mình / a box touches its own topics only.
pattern write lt/1/%u/up
pattern write lt/1/%u/presence
pattern read lt/1/%u/down

# Trục / the hub.
user trucd
topic readwrite lt/1/#
";

impl Setup<'_> {
    pub fn configuration(&self) -> String {
        let folder = self.folder.display();
        let port = self.listen.port();
        let bind = match self.listen.ip() {
            ip if ip.is_unspecified() => String::new(),
            ip => format!(" {ip}"),
        };
        let user = self
            .user
            .as_ref()
            .map_or(String::new(), |user| format!("user {user}\n"));
        format!(
            "\
# Mosquitto 2 thay cho máy môi giới trong trucd; do trucd init tạo.
# Mosquitto 2 in place of the broker within trucd; written by trucd init.
#
#   mosquitto -c {folder}/mosquitto.conf
#
# và trong trucd.toml / and in trucd.toml: broker = \"external\", addresses = [\"127.0.0.1:{port}\"].
# Tài khoản chạy Mosquitto phải đọc được các tệp dưới đây; khi root khởi động, Mosquitto chuyển sang
# tài khoản ở dòng user. Trạm bị tạm ngừng hay thu hồi, và khóa cũ của trạm đã đổi khóa, vẫn kết nối được, nhưng trục từ
# chối dữ liệu.
# The user that runs Mosquitto must be able to read the files below; started by root, Mosquitto
# becomes the one named by user. A box that is suspended or revoked, and a key that a box has
# changed, can still connect, but the hub refuses its data.

{user}per_listener_settings false
allow_anonymous false
acl_file {folder}/mosquitto.acl

listener {port}{bind}
protocol mqtt
cafile {folder}/ca.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
# Chỉ nhận chứng thư do trục cấp; tên trong chứng thư là tên người dùng và định danh kết nối, nên
# không ai chiếm chỗ của trạm khác.
# Certificates of the hub's authority only; the name in it is user name and client id, so that nobody
# takes another box's place.
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.3
max_connections 4096
max_qos 1
max_topic_alias 0

# Hộp thư không giữ gì: trạm gửi lại đến khi có biên nhận.
# The broker keeps nothing: a box sends again until it has its receipt.
persistence false
persistent_client_expiration 1h
max_packet_size {PACKET_BYTES_MAX}
message_size_limit {MESSAGE_BYTES_MAX}
max_inflight_messages 64
max_queued_messages 8192
max_queued_bytes 67108864
queue_qos0_messages false
max_keepalive 600
set_tcp_nodelay true
sys_interval 0
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"
        )
    }
}
