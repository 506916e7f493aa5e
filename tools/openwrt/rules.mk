# The smallest stand-in for OpenWrt's build tree: it evaluates the feed's Makefile with GNU make and
# carries out its own install steps, so that tools/package packs what the feed would. It compiles
# nothing. Called with OUT, and with PKG_INSTALL_DIR as the folder whose bin/ has the programs.

# As in OpenWrt's rules.mk.
INSTALL_BIN:=install -m0755
INSTALL_DIR:=install -d -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
