# The names that openwrt/packages' lang/rust/rust-package.mk gives; the call of cargo is only shown.

RUST_ARCH_DEPENDS:=@(aarch64||arm||i386||loongarch64||mips||mips64||mips64el||mipsel||powerpc||powerpc64||riscv64||x86_64)

# $(1) path to the package, $(2) additional arguments to cargo
define Build/Compile/Cargo
	@echo cargo install --locked --root $(PKG_INSTALL_DIR) --path $(PKG_BUILD_DIR)/$(strip $(1)) $(strip $(2))
endef

define RustBinPackage
  $(if $(Package/$(1)/install),,$(error $(1): without an install step its programs would go to /usr/bin))
endef

Build/Compile=$(call Build/Compile/Cargo)
