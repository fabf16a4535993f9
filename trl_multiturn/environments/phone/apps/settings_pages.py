"""The pages of the app Settings and what can be set on each."""

from dataclasses import dataclass

from .common import APP_NAMES


@dataclass(frozen=True)
class Setting:
    """
    Something that can be set.

    Args:
        key (`str`):
            Key of its value in the app's data.
        page (`str`):
            Page that it is on.
        label (`str`):
            What it is called.
        label_zh (`str`):
            The same in Chinese.
        start (`bool` or `str`):
            Its value at the start.
        options (`tuple[str, ...]`, *optional*):
            Values to choose from; by default it is a switch.
    """

    key: str
    page: str
    label: str
    label_zh: str
    start: bool | str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """
    A page of settings.

    Args:
        name (`str`):
            Name of its screen.
        label (`str`):
            Its title, and what it is called on the page above.
        label_zh (`str`):
            The same in Chinese.
        parent (`str`, *optional*, defaults to `"main"`):
            Page above.
    """

    name: str
    label: str
    label_zh: str
    parent: str = "main"


# Some things are where one would not look first: text size is not with the display, nor silence with notifications.
PAGES = {
    page.name: page
    for page in (
        Page("wifi", "Wi-Fi", "无线网络"),
        Page("bluetooth", "Bluetooth", "蓝牙"),
        Page("mobile", "Mobile network", "移动网络"),
        Page("display", "Display", "显示"),
        Page("wallpaper", "Wallpaper", "壁纸"),
        Page("sound", "Sound", "声音"),
        Page("notifications", "Notifications", "通知"),
        Page("battery", "Battery", "电池"),
        Page("storage", "Storage", "存储"),
        Page("privacy", "Privacy", "隐私"),
        Page("security", "Security", "安全"),
        Page("accessibility", "Accessibility", "无障碍"),
        Page("accounts", "Accounts", "账户"),
        Page("system", "System", "系统"),
        Page("about", "About phone", "关于手机"),
        Page("night", "Night light", "夜间护眼", "display"),
        Page("quiet", "Quiet hours", "勿扰时段", "sound"),
        Page("location", "Location", "定位", "privacy"),
        Page("screen_lock", "Screen lock", "锁屏", "security"),
        Page("text", "Text", "文字", "accessibility"),
        Page("language", "Language and input", "语言和输入", "system"),
        Page("time", "Date and time", "日期和时间", "system"),
    )
}

_AMOUNTS = ("Low", "Medium", "High")

SETTINGS = {
    setting.key: setting
    for setting in (
        Setting("wifi", "wifi", "Wi-Fi", "无线网络", True),
        Setting("bluetooth", "bluetooth", "Bluetooth", "蓝牙", False),
        Setting("mobile_data", "mobile", "Mobile data", "移动数据", True),
        Setting("roaming", "mobile", "Data roaming", "数据漫游", False),
        Setting("aeroplane", "mobile", "Aeroplane mode", "飞行模式", False),
        Setting("hotspot", "mobile", "Hotspot", "个人热点", False),
        Setting("brightness", "display", "Brightness", "亮度", "Medium", _AMOUNTS),
        Setting("dark", "display", "Dark mode", "深色模式", False),
        Setting("rotate", "display", "Rotate screen", "自动旋转", True),
        Setting(
            "timeout", "display", "Screen timeout", "熄屏时间", "1 minute", ("30 seconds", "1 minute", "5 minutes")
        ),
        Setting("night", "night", "Night light", "夜间护眼", False),
        Setting("warmth", "night", "Warmth", "色温", "Medium", _AMOUNTS),
        Setting(
            "wallpaper", "wallpaper", "Picture", "壁纸图片", "Lake", ("Lake", "Forest", "Dunes", "City", "Plain grey")
        ),
        Setting("volume", "sound", "Media volume", "媒体音量", "Medium", _AMOUNTS),
        Setting("ring_volume", "sound", "Ring volume", "铃声音量", "Medium", _AMOUNTS),
        Setting("ringtone", "sound", "Ringtone", "铃声", "Bells", ("Bells", "Birds", "Piano", "Piano soft", "Waves")),
        Setting("vibrate", "sound", "Vibrate on calls", "来电振动", True),
        Setting("keys", "sound", "Key sounds", "按键音", True),
        Setting("silent", "quiet", "Do not disturb", "勿扰模式", False),
        Setting("repeat_calls", "quiet", "Let repeat calls in", "允许重复来电", True),
        Setting("saver", "battery", "Battery saver", "省电模式", False),
        Setting("percent", "battery", "Show percentage", "显示电量百分比", False),
        Setting("clean", "storage", "Clean up by itself", "自动清理", False),
        Setting("camera", "privacy", "Camera access", "相机权限", True),
        Setting("microphone", "privacy", "Microphone access", "麦克风权限", True),
        Setting("location", "location", "Location", "定位服务", True),
        Setting("precise", "location", "Precise location", "精确定位", True),
        Setting("find", "security", "Find my phone", "查找手机", False),
        Setting("lock", "screen_lock", "Lock type", "锁屏方式", "Swipe", ("None", "Swipe", "PIN", "Pattern")),
        Setting("lock_text", "screen_lock", "Show texts when locked", "锁屏显示消息", True),
        Setting("captions", "accessibility", "Captions", "字幕", False),
        Setting("magnifier", "accessibility", "Magnifier", "放大镜", False),
        Setting("text_size", "text", "Text size", "文字大小", "Medium", ("Small", "Medium", "Large", "Huge")),
        Setting("bold", "text", "Bold text", "粗体文字", False),
        Setting("sync", "accounts", "Sync by itself", "自动同步", True),
        Setting("language", "language", "Language", "语言", "English", ("English", "Deutsch", "Italiano", "Svenska")),
        Setting("spelling", "language", "Check spelling", "拼写检查", True),
        Setting("zone", "time", "Time zone", "时区", "Berlin", ("Berlin", "Lisbon", "Shanghai", "Sydney", "Toronto")),
        Setting("day_hours", "time", "24-hour clock", "24小时制", True),
        *(Setting(f"notify {name}", "notifications", name, f"{name}的通知", True) for name in APP_NAMES),
    )
}
