# The names that openwrt/luci's luci.mk gives an application: what its package says and what is installed.
# Nothing is minified, and there are no packages of translations.

LUCI_PKGARCH?=all

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION:=luci
  CATEGORY:=LuCI
  SUBMENU:=3. Applications
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  PKGARCH:=$(LUCI_PKGARCH)
  URL:=$(LUCI_URL)
endef

define Package/$(PKG_NAME)/description
  $(LUCI_DESCRIPTION)
endef

# git knows of a file's mode only whether it is executable.
define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	cp -R htdocs/. $(1)/www/
	cp -R root/. $(1)/
	find $(1) -type d -exec chmod 755 {} + -o -perm -u+x -exec chmod 755 {} + -o -exec chmod 644 {} +
endef

# LuCI keeps an index of its menu, and rpcd reads the access files at its start.
define Package/$(PKG_NAME)/postinst
#!/bin/sh
[ -z "$${IPKG_INSTROOT}" ] || exit 0
rm -f /tmp/luci-indexcache.*
rm -rf /tmp/luci-modulecache/
/etc/init.d/rpcd reload 2>/dev/null
exit 0
endef

$(eval $(call BuildPackage,$(PKG_NAME)))
