//! Word lists: names, places, procedures, phrases of offices.

pub struct Commune {
    pub code: &'static str,
    pub name: &'static str,
}

const fn commune(code: &'static str, name: &'static str) -> Commune {
    Commune { code, name }
}

pub static TAY_NINH: [Commune; 12] = [
    commune("25459", "Phường Tân Ninh"),
    commune("25480", "Phường Bình Minh"),
    commune("25486", "Xã Tân Biên"),
    commune("25516", "Xã Tân Châu"),
    commune("25552", "Xã Dương Minh Châu"),
    commune("25585", "Xã Châu Thành"),
    commune("25630", "Phường Long Hoa"),
    commune("25645", "Phường Hòa Thành"),
    commune("25654", "Phường Gò Dầu"),
    commune("25681", "Xã Bến Cầu"),
    commune("25708", "Phường Trảng Bàng"),
    commune("25711", "Xã Phước Chỉ"),
];

pub static TUYEN_QUANG: [Commune; 12] = [
    commune("00691", "Phường Hà Giang 2"),
    commune("00712", "Xã Đồng Văn"),
    commune("00769", "Xã Mèo Vạc"),
    commune("02212", "Phường Minh Xuân"),
    commune("02221", "Xã Na Hang"),
    commune("02266", "Xã Lâm Bình"),
    commune("02287", "Xã Chiêm Hóa"),
    commune("02374", "Xã Hàm Yên"),
    commune("02434", "Phường Mỹ Lâm"),
    commune("02473", "Xã Yên Sơn"),
    commune("02509", "Phường Nông Tiến"),
    commune("02536", "Xã Sơn Dương"),
];

pub static FAMILY: [&str; 18] = [
    "Nguyễn", "Trần", "Lê", "Phạm", "Huỳnh", "Hoàng", "Phan", "Vũ", "Võ", "Đặng", "Bùi", "Đỗ",
    "Hồ", "Ngô", "Dương", "Lý", "Ma", "Nông",
];

pub static MIDDLE_MALE: [&str; 12] = [
    "Văn", "Hữu", "Đức", "Minh", "Quang", "Thanh", "Công", "Xuân", "Ngọc", "Gia", "Quốc", "Trọng",
];

pub static MIDDLE_FEMALE: [&str; 12] = [
    "Thị",
    "Thị Ngọc",
    "Thị Kim",
    "Thị Thu",
    "Thị Thanh",
    "Thị Bích",
    "Thùy",
    "Phương",
    "Mỹ",
    "Diễm",
    "Hồng",
    "Thị Hồng",
];

pub static GIVEN_MALE: [&str; 24] = [
    "An", "Bảo", "Cường", "Dũng", "Đạt", "Đông", "Giang", "Hải", "Hiếu", "Hòa", "Hùng", "Khánh",
    "Khôi", "Long", "Lộc", "Nam", "Nghĩa", "Phúc", "Quân", "Sơn", "Tài", "Thắng", "Toàn", "Tuấn",
];

pub static GIVEN_FEMALE: [&str; 24] = [
    "Ánh",
    "Châu",
    "Chi",
    "Diệp",
    "Dung",
    "Hà",
    "Hạnh",
    "Hiền",
    "Hoa",
    "Hương",
    "Lan",
    "Linh",
    "Loan",
    "Mai",
    "Nga",
    "Ngân",
    "Nhung",
    "Phượng",
    "Quyên",
    "Thảo",
    "Trang",
    "Tuyết",
    "Vân",
    "Yến",
];

pub static BIRTH_PROVINCES: [&str; 5] = ["072", "080", "008", "002", "079"];
pub static PHONE_PREFIXES: [&str; 8] = ["090", "091", "093", "096", "097", "098", "035", "081"];

pub static STREETS: [&str; 14] = [
    "Cách Mạng Tháng Tám",
    "Điện Biên Phủ",
    "Nguyễn Trãi",
    "Trường Chinh",
    "Tôn Đức Thắng",
    "Lê Lợi",
    "Quang Trung",
    "Phan Thiết",
    "Bình Thuận",
    "Tân Trào",
    "17 Tháng 8",
    "Hoàng Quốc Việt",
    "Trần Hưng Đạo",
    "Nguyễn Văn Linh",
];

pub static HAMLETS: [&str; 12] = [
    "Ấp Ninh Trung",
    "Ấp Thạnh Lợi",
    "Ấp Long Yên",
    "Ấp Bình Hòa",
    "Khu phố 1",
    "Khu phố 4",
    "Thôn Nà Mỏ",
    "Thôn Bản Đồn",
    "Thôn Tân Thành",
    "Tổ dân phố 3",
    "Tổ dân phố 7",
    "Thôn Lũng Cú",
];

pub static ETHNIC_GROUPS: [&str; 8] = [
    "Kinh", "Kinh", "Kinh", "Tày", "Mông", "Dao", "Khmer", "Nùng",
];

/// Code, name, field, fee in đồng.
pub static PROCEDURES: [(&str, &str, &str, u32); 12] = [
    ("1.001193", "Đăng ký khai sinh", "Hộ tịch", 8_000),
    ("1.000656", "Đăng ký khai tử", "Hộ tịch", 8_000),
    ("1.000894", "Đăng ký kết hôn", "Hộ tịch", 0),
    (
        "2.000815",
        "Chứng thực bản sao từ bản chính giấy tờ, văn bản",
        "Chứng thực",
        20_000,
    ),
    (
        "2.000884",
        "Chứng thực chữ ký trong các giấy tờ, văn bản",
        "Chứng thực",
        10_000,
    ),
    (
        "1.004873",
        "Cấp Giấy xác nhận tình trạng hôn nhân",
        "Hộ tịch",
        15_000,
    ),
    (
        "1.012753",
        "Đăng ký đất đai, cấp Giấy chứng nhận quyền sử dụng đất lần đầu",
        "Đất đai",
        150_000,
    ),
    (
        "1.012783",
        "Đăng ký biến động quyền sử dụng đất do chuyển nhượng, tặng cho",
        "Đất đai",
        80_000,
    ),
    (
        "1.001612",
        "Đăng ký thành lập hộ kinh doanh",
        "Thành lập và hoạt động hộ kinh doanh",
        100_000,
    ),
    (
        "1.001776",
        "Thực hiện, điều chỉnh, thôi hưởng trợ cấp xã hội hàng tháng",
        "Bảo trợ xã hội",
        0,
    ),
    (
        "1.009794",
        "Cấp Giấy phép xây dựng nhà ở riêng lẻ",
        "Hoạt động xây dựng",
        75_000,
    ),
    (
        "2.001255",
        "Đăng ký lại việc nuôi con nuôi trong nước",
        "Nuôi con nuôi",
        0,
    ),
];

pub static SUBJECTS: [&str; 12] = [
    "V/v triển khai chiến dịch chuyển đổi số đến từng thôn, tổ dân phố",
    "V/v rà soát, cập nhật thủ tục hành chính thuộc thẩm quyền giải quyết của cấp xã",
    "Báo cáo tình hình phát triển kinh tế - xã hội, quốc phòng, an ninh tháng",
    "Kế hoạch phòng, chống thiên tai và tìm kiếm cứu nạn",
    "V/v tăng cường công tác phòng cháy, chữa cháy mùa khô",
    "Giấy mời họp giao ban công tác tuần",
    "V/v cung cấp số liệu hộ nghèo, hộ cận nghèo theo chuẩn đa chiều",
    "Quyết định phê duyệt dự toán thu, chi ngân sách bổ sung",
    "V/v tổ chức tiếp công dân định kỳ",
    "Thông báo kết luận của Chủ tịch Ủy ban nhân dân tại phiên họp thường kỳ",
    "V/v đôn đốc thực hiện nhiệm vụ được giao, quá hạn",
    "V/v phối hợp giải quyết kiến nghị của cử tri sau kỳ họp Hội đồng nhân dân",
];

pub static EXPENSES: [&str; 10] = [
    "Chi lương, phụ cấp cán bộ, công chức tháng",
    "Thanh toán tiền điện trụ sở Ủy ban nhân dân",
    "Chi hoạt động của nhà văn hóa thôn",
    "Mua văn phòng phẩm phục vụ Trung tâm Phục vụ hành chính công",
    "Chi hỗ trợ người hoạt động không chuyên trách ở thôn",
    "Thanh toán cước đường truyền số liệu chuyên dùng",
    "Chi sửa chữa đường giao thông nông thôn",
    "Thu phí, lệ phí chứng thực nộp ngân sách",
    "Chi trợ cấp đột xuất cho hộ gặp thiên tai",
    "Chi tiếp khách, hội nghị sơ kết",
];

pub static VACCINES: [&str; 8] = [
    "BCG",
    "DPT-VGB-Hib",
    "bOPV",
    "IPV",
    "Sởi đơn",
    "MR",
    "Viêm não Nhật Bản",
    "Viêm gan B",
];

pub static DISEASES: [(&str, &str); 6] = [
    ("A97.0", "Sốt xuất huyết Dengue không có dấu hiệu cảnh báo"),
    ("B08.4", "Bệnh tay chân miệng"),
    ("J11", "Cúm mùa"),
    ("B05.9", "Sởi không biến chứng"),
    ("B01.9", "Thủy đậu không biến chứng"),
    ("A82.9", "Bệnh dại"),
];

pub static COMPLAINTS: [&str; 6] = [
    "Phản ánh tuyến đường liên thôn xuống cấp, nước đọng nhiều ngày gây mất an toàn giao thông",
    "Kiến nghị xem xét lại kết quả bình xét hộ nghèo năm nay của thôn",
    "Khiếu nại về phương án bồi thường, hỗ trợ khi thu hồi đất làm đường",
    "Phản ánh cơ sở chăn nuôi xả thải chưa qua xử lý ra kênh thủy lợi",
    "Tố cáo việc thu các khoản đóng góp ngoài quy định tại trường học",
    "Kiến nghị lắp thêm đèn chiếu sáng và biển báo trước cổng trường",
];

/// Event, level, what happened.
pub static SECURITY_EVENTS: [(&str, &str, &str); 8] = [
    (
        "dang_nhap_sai",
        "chu_y",
        "Đăng nhập sai nhiều lần vào tài khoản quản trị của máy trạm",
    ),
    (
        "quet_cong",
        "canh_bao",
        "Phát hiện quét cổng từ một địa chỉ trong mạng nội bộ",
    ),
    (
        "ma_doc",
        "nghiem_trong",
        "Phần mềm chống mã độc cách ly một tệp thực thi trên thiết bị lưu trữ ngoài",
    ),
    (
        "usb_la",
        "chu_y",
        "Thiết bị USB chưa đăng ký được cắm vào máy tính của bộ phận một cửa",
    ),
    (
        "cap_nhat_thieu",
        "thong_tin",
        "Máy tính chưa cài bản vá hệ điều hành của tháng",
    ),
    (
        "ket_noi_la",
        "canh_bao",
        "Kết nối ra ngoài tới tên miền nằm trong danh sách nghi ngờ",
    ),
    (
        "mat_dien_luoi",
        "thong_tin",
        "Mất điện lưới, thiết bị chuyển sang bộ lưu điện",
    ),
    (
        "doi_cau_hinh",
        "thong_tin",
        "Cấu hình tường lửa được thay đổi bởi người quản trị",
    ),
];
