//! What each reason for a missing link means, and what to do: steps that a technician can follow by
//! telephone, in the order in which they help most often.

use crate::edge::page::lang::Words;
use crate::shell::down::DownReason;

/// One reason, told to a person.
#[derive(Debug, Clone, Copy)]
pub struct Remedy {
    /// Which step of the way to the hub has failed.
    pub stage: Stage,
    pub what: Words,
    /// One after the other.
    pub steps: &'static [Words],
}

/// The steps of the way to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Name,
    Tcp,
    Tls,
    Certificate,
    Clock,
    Broker,
    Hub,
    Progress,
    /// The box itself has ended the link, for a reason.
    Own,
}

impl Stage {
    pub fn name(self) -> Words {
        match self {
            Stage::Name => ["Tra tên máy chủ (DNS)", "Name lookup (DNS)"],
            Stage::Tcp => ["Đường truyền (TCP)", "Network (TCP)"],
            Stage::Tls => ["Kênh mã hóa (TLS)", "Encryption (TLS)"],
            Stage::Certificate => ["Chứng thư", "Certificate"],
            Stage::Clock => ["Đồng hồ", "Clock"],
            Stage::Broker => ["Dịch vụ MQTT", "MQTT service"],
            Stage::Hub => ["Phần mềm trục", "The hub's program"],
            Stage::Progress => ["Xác nhận của trục", "The hub's receipts"],
            Stage::Own => ["Trạm tự nối lại", "The box connects anew"],
        }
    }
}

const LINK_TEST: Words = [
    "Đăng nhập mục Kỹ thuật viên và chạy “Kiểm tra đường truyền” để thấy hỏng ở bước nào.",
    "Sign in under Technician and run “Link test” to see which step fails.",
];
const WAIT: Words = [
    "Không phải làm gì thêm: trạm tự thử lại, dữ liệu đã nhận vẫn an toàn trên đĩa.",
    "Nothing more to do: the box tries again by itself, what was accepted is safe on the disk.",
];
const CALL_HUB: Words = [
    "Gọi đơn vị vận hành trục, đọc tên trạm và mã lỗi trên trang này.",
    "Call the hub's operator and read out the box's name and the code on this page.",
];
const ROUTER: Words = [
    "Xem đèn Internet của bộ định tuyến và cáp mạng nối vào trạm; rút cáp ra, cắm lại.",
    "Look at the router's Internet light and the box's network cable; unplug it and plug it in again.",
];
const OTHER_MACHINE: Words = [
    "Mở một trang web bằng máy khác cùng mạng: nếu cũng không được thì gọi nhà mạng.",
    "Open a web page on another computer of this network: if that fails too, call the network provider.",
];
const SET_CLOCK: Words = [
    "So giờ của trạm ở mục Máy với đồng hồ thật; nếu sai, bật đồng bộ: timedatectl set-ntp true.",
    "Compare the box's time under Machine with a real clock; if wrong: timedatectl set-ntp true.",
];
const ADDRESS: Words = [
    "So địa chỉ và cổng ở mục hub.addresses của cấu hình với phiếu do trục cấp (lệnh: tramd config).",
    "Compare hub.addresses of the configuration with the hub's sheet (command: tramd config).",
];
const ONE_BOX: Words = [
    "Tìm xem có máy thứ hai dùng cùng bộ khóa không (máy cũ chưa tắt, máy nhân bản); tắt máy đó.",
    "Look for a second machine with the same keys (an old box, a clone) and switch it off.",
];
const NO_PORTAL: Words = [
    "Mở trang web bằng máy khác cùng mạng: nếu hiện trang đăng nhập Wi-Fi thì đăng nhập, hoặc đổi sang mạng dây.",
    "Open a web page on another computer: if a Wi-Fi login appears, sign in or use a cabled network.",
];
const NO_INSPECTION: Words = [
    "Hỏi quản trị mạng có tường lửa hoặc phần mềm diệt vi-rút mở TLS ra kiểm tra không; xin miễn cho địa chỉ của trục.",
    "Ask the network's administrator whether a firewall or antivirus opens TLS; have the hub's address exempted.",
];
const NEW_CERTIFICATE: Words = [
    "Xem số ngày còn lại của chứng thư ở mục Máy; nếu đã hết, xin trục cấp lại (trucd box reissue), chép box.crt và box.key sang trạm rồi khởi động lại.",
    "See the certificate's days under Machine; if it has ended, have the hub issue it again (trucd box reissue), copy box.crt and box.key to the box and restart it.",
];

/// What to do about a reason.
pub fn remedy(reason: DownReason) -> Remedy {
    let (stage, what, steps) = parts(reason);
    Remedy { stage, what, steps }
}

/// The same for a code of the status; none for one of a newer program.
pub fn remedy_of_code(code: &str, mqtt: Option<u8>) -> Option<Remedy> {
    DownReason::from_code(code, mqtt).map(remedy)
}

fn parts(reason: DownReason) -> (Stage, Words, &'static [Words]) {
    match reason {
        DownReason::NameLookup => (
            Stage::Name,
            [
                "Không tra được địa chỉ của máy chủ trục.",
                "The hub's name has no address.",
            ],
            &[
                ROUTER,
                OTHER_MACHINE,
                [
                    "Kiểm tra máy chủ DNS trong cài đặt mạng của trạm (lệnh: resolvectl status).",
                    "Check the name servers in the box's network settings (command: resolvectl status).",
                ],
                ADDRESS,
            ],
        ),
        DownReason::TcpRefused => (
            Stage::Tcp,
            [
                "Máy chủ trục từ chối kết nối: dịch vụ ở đó chưa chạy, hoặc sai cổng.",
                "The hub's machine refuses the connection: its service is down, or the port is wrong.",
            ],
            &[ADDRESS, CALL_HUB, WAIT],
        ),
        DownReason::TcpTimedOut => (
            Stage::Tcp,
            [
                "Máy chủ trục không trả lời: đường truyền đứt hoặc tường lửa chặn.",
                "The hub's machine does not answer: the line is cut, or a firewall is in the way.",
            ],
            &[
                ROUTER,
                OTHER_MACHINE,
                [
                    "Nếu web vẫn vào được, hỏi quản trị mạng có chặn cổng của trục (thường là 8883) không.",
                    "If web pages open, ask the network's administrator whether the hub's port (often 8883) is blocked.",
                ],
                WAIT,
            ],
        ),
        DownReason::TcpUnreachable => (
            Stage::Tcp,
            [
                "Không có đường tới máy chủ trục: trạm đang không có mạng.",
                "There is no way to the hub's machine: the box has no network.",
            ],
            &[
                ROUTER,
                [
                    "Nếu dùng 4G: kiểm tra SIM, sóng và dung lượng còn lại.",
                    "With 4G: check the SIM card, the signal and the data left.",
                ],
                OTHER_MACHINE,
                WAIT,
            ],
        ),
        DownReason::TlsTimedOut => (
            Stage::Tls,
            [
                "Nối được tới máy chủ nhưng không bắt đầu được kênh mã hóa: đường truyền quá yếu, hoặc tường lửa giữ lại.",
                "TCP stands, but TLS gets no answer: the line is very weak, or a firewall holds it back.",
            ],
            &[NO_INSPECTION, ROUTER, LINK_TEST],
        ),
        DownReason::NotTls => (
            Stage::Tls,
            [
                "Bên trả lời không phải máy chủ trục: có thể là trang đăng nhập mạng, hoặc sai cổng.",
                "What answered is not the hub: perhaps a login page of the network, or a wrong port.",
            ],
            &[NO_PORTAL, ADDRESS],
        ),
        DownReason::TlsUnknownIssuer => (
            Stage::Certificate,
            [
                "Chứng thư máy chủ do nơi lạ cấp: có thể có thiết bị chặn giữa đường.",
                "A stranger has issued the server's certificate: something may stand in the way.",
            ],
            &[
                NO_PORTAL,
                NO_INSPECTION,
                [
                    "Nếu trục vừa thay đổi nơi cấp: xin tệp ca.pem mới và chép vào thư mục cấu hình.",
                    "If the hub has changed its authority: get the new ca.pem and copy it to the configuration's folder.",
                ],
            ],
        ),
        DownReason::TlsWrongName => (
            Stage::Certificate,
            [
                "Chứng thư máy chủ không mang tên trong cấu hình của trạm.",
                "The server's certificate is not for the name in the box's configuration.",
            ],
            &[ADDRESS, CALL_HUB],
        ),
        DownReason::TlsExpired => (
            Stage::Clock,
            [
                "Theo đồng hồ của trạm, chứng thư máy chủ trục đã hết hạn.",
                "By the box's clock the server's certificate has ended.",
            ],
            &[
                SET_CLOCK,
                [
                    "Nếu giờ của trạm đúng: báo đơn vị vận hành trục gia hạn chứng thư máy chủ.",
                    "If the box's time is right: have the hub's operator renew the server's certificate.",
                ],
            ],
        ),
        DownReason::TlsNotYetValid => (
            Stage::Clock,
            [
                "Theo đồng hồ của trạm, chứng thư máy chủ trục chưa có hiệu lực.",
                "By the box's clock the server's certificate is not valid yet.",
            ],
            &[
                SET_CLOCK,
                [
                    "Nếu trạm sai giờ sau mỗi lần mất điện: thay pin đồng hồ (CMOS) của máy.",
                    "If the time is wrong after each power cut: replace the clock's battery.",
                ],
            ],
        ),
        DownReason::TlsBadCertificate => (
            Stage::Certificate,
            [
                "Chứng thư máy chủ trục không dùng được.",
                "The server's certificate cannot be used.",
            ],
            &[NO_INSPECTION, CALL_HUB],
        ),
        DownReason::TlsOursRefused => (
            Stage::Certificate,
            [
                "Máy chủ trục không nhận chứng thư của trạm: đã hết hạn, bị thu hồi hoặc sai nơi cấp.",
                "The hub does not take the box's certificate: ended, revoked, or of another authority.",
            ],
            &[NEW_CERTIFICATE, SET_CLOCK, CALL_HUB],
        ),
        DownReason::TlsFailed => (
            Stage::Tls,
            [
                "Hai bên không thỏa thuận được kênh mã hóa TLS.",
                "Both sides find no common way of TLS.",
            ],
            &[
                NO_INSPECTION,
                [
                    "Kiểm tra phiên bản của trạm ở cuối trang; nếu cũ, cập nhật.",
                    "Look at the version at the end of the page; if it is old, update.",
                ],
                CALL_HUB,
            ],
        ),
        DownReason::MqttTimedOut => (
            Stage::Broker,
            [
                "Kênh mã hóa thông nhưng dịch vụ MQTT không trả lời.",
                "TLS stands, but the MQTT service does not answer.",
            ],
            &[WAIT, CALL_HUB],
        ),
        DownReason::NotMqtt => (
            Stage::Broker,
            [
                "Bên trả lời không nói đúng giao thức MQTT 5.",
                "What answered does not speak MQTT 5.",
            ],
            &[ADDRESS, CALL_HUB],
        ),
        DownReason::MqttRefused(code) | DownReason::BrokerLeft(code) if is_for_everyone(code) => (
            Stage::Broker,
            [
                "Dịch vụ MQTT đang quá tải hoặc bảo trì và cho mọi trạm ra; không phải lỗi của trạm này.",
                "The MQTT service is overloaded or under maintenance and sends all boxes away; not this box's fault.",
            ],
            &[
                WAIT,
                [
                    "Nếu quá một giờ chưa thông, gọi đơn vị vận hành trục.",
                    "If it lasts more than an hour, call the hub's operator.",
                ],
            ],
        ),
        DownReason::MqttRefused(_) => (
            Stage::Broker,
            [
                "Dịch vụ MQTT từ chối trạm này: trạm chưa được đăng ký, bị tạm ngừng hoặc bị thu hồi.",
                "The MQTT service refuses this box: not registered, suspended or revoked.",
            ],
            &[
                CALL_HUB,
                [
                    "Người vận hành trục xem bằng lệnh trucd box list; trạm phải ở trạng thái hoạt động.",
                    "The hub's operator looks with trucd box list; the box must be active.",
                ],
                NEW_CERTIFICATE,
            ],
        ),
        DownReason::SubscriptionRefused(_) => (
            Stage::Broker,
            [
                "Dịch vụ MQTT không cho trạm nhận tin: phân quyền ở trục chưa đúng.",
                "The MQTT service does not let the box receive: its access list at the hub is wrong.",
            ],
            &[
                CALL_HUB,
                [
                    "Người vận hành trục kiểm tra quyền của trạm với chủ đề lt/1/TÊN-TRẠM/down (tệp mosquitto.conf do trucd init tạo).",
                    "The hub's operator checks the box's right to lt/1/BOX/down (mosquitto.conf made by trucd init).",
                ],
            ],
        ),
        DownReason::TakenOver => (
            Stage::Broker,
            [
                "Một máy khác đang kết nối bằng định danh của trạm này.",
                "Another machine connects with this box's identity.",
            ],
            &[
                ONE_BOX,
                [
                    "Nếu không tìm thấy máy nào: khóa có thể đã lộ; xin trục thu hồi và ghi danh lại.",
                    "If there is none: the key may have leaked; have the hub revoke it and enrol again.",
                ],
            ],
        ),
        DownReason::BrokerLeft(_) => (
            Stage::Broker,
            [
                "Dịch vụ MQTT đã chủ động ngắt kết nối.",
                "The MQTT service has ended the connection.",
            ],
            &[WAIT, CALL_HUB],
        ),
        DownReason::ClosedByPeer => (
            Stage::Tcp,
            [
                "Kết nối bị đóng đột ngột: đường truyền chập chờn, hoặc máy chủ khởi động lại.",
                "The connection was closed without a word: an unsteady line, or the server restarts.",
            ],
            &[WAIT, ROUTER, LINK_TEST],
        ),
        DownReason::KeepsClosing => (
            Stage::Broker,
            [
                "Kết nối vừa thông đã bị đóng, lặp đi lặp lại: thường là máy khác dùng cùng định danh.",
                "Again and again the connection is closed soon after it stood: often another machine has the same identity.",
            ],
            &[ONE_BOX, NO_INSPECTION, CALL_HUB],
        ),
        DownReason::Silent => (
            Stage::Tcp,
            [
                "Đường truyền im lặng quá lâu nên được coi là đã đứt.",
                "The line was silent for too long and counts as cut.",
            ],
            &[ROUTER, OTHER_MACHINE, WAIT],
        ),
        DownReason::NoProgress => (
            Stage::Progress,
            [
                "Có kết nối nhưng trục không xác nhận dữ liệu; trạm đang nối lại.",
                "The link stands, but the hub confirms nothing; the box connects anew.",
            ],
            &[
                WAIT,
                [
                    "Nếu quá 30 phút: gọi đơn vị vận hành trục kiểm tra dịch vụ trucd và cơ sở dữ liệu ở trung tâm.",
                    "If it lasts 30 minutes: have the hub's operator check trucd and its database.",
                ],
                LINK_TEST,
            ],
        ),
        DownReason::Returning => (
            Stage::Own,
            [
                "Trạm đang chuyển về địa chỉ chính của trục.",
                "The box returns to the hub's first address.",
            ],
            &[WAIT],
        ),
        DownReason::Asked => (
            Stage::Own,
            [
                "Trạm đang nối lại theo yêu cầu.",
                "The box connects anew, as was asked.",
            ],
            &[WAIT],
        ),
    }
}

/// What to do when the hub has refused a batch; `code` is the refusal's.
pub fn of_refusal(code: &str) -> &'static [Words] {
    match code {
        "unknown_box" | "suspended" => &[
            CALL_HUB,
            [
                "Người vận hành trục xem bằng lệnh trucd box list và đăng ký hoặc cho trạm hoạt động lại.",
                "The hub's operator looks with trucd box list and registers the box or lets it work again.",
            ],
        ],
        "forged" => &[
            [
                "Khóa của trạm không khớp với đăng ký ở trục: xin trục cấp lại (trucd box reissue), chép box.crt và box.key sang trạm rồi khởi động lại.",
                "The box's key is not the registered one: have the hub issue it again (trucd box reissue), copy box.crt and box.key to the box and restart it.",
            ],
            ONE_BOX,
        ],
        _ => &[
            CALL_HUB,
            [
                "Tải gói chẩn đoán (lệnh: tramd bundle TỆP) và gửi cho đơn vị hỗ trợ.",
                "Make a diagnostics bundle (command: tramd bundle FILE) and send it to support.",
            ],
        ],
    }
}

/// Whether a broker sends all its clients away with this code.
fn is_for_everyone(code: u8) -> bool {
    DownReason::MqttRefused(code).is_for_everyone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_remedy_in_both_languages() {
        let mut told = std::collections::BTreeSet::new();
        for reason in DownReason::ALL {
            let remedy = remedy(reason);
            let [vi, en] = remedy.what;
            assert!(vi.ends_with('.') && en.ends_with('.'), "{reason}");
            assert!(told.insert(vi), "{reason} is told like another one: {vi}");
            assert!(!remedy.steps.is_empty(), "{reason}");
            for [vi, en] in remedy.steps {
                assert!(vi.ends_with('.') && en.ends_with('.'), "{reason}: {vi}");
                assert_ne!(vi, en, "{reason}");
            }
            let found = remedy_of_code(reason.as_code(), reason.reason_code());
            assert_eq!(found.map(|remedy| remedy.what), Some([vi, en]), "{reason}");
        }
        assert!(remedy_of_code("of-a-newer-program", None).is_none());
    }

    #[test]
    fn a_broker_that_sends_everybody_away_is_not_the_boxes_fault() {
        let refused = |code| remedy(DownReason::MqttRefused(code)).what[0];
        assert!(refused(0x89).contains("không phải lỗi của trạm"));
        assert!(refused(0x87).contains("từ chối trạm này"));
    }
}
