# BuildPackage as `stage`: the package's files, and its metadata as one file for each field, in OUT/NAME.

PKG_BUILD_DIR?=$(OUT)/build
STAGED_FIELDS:=TITLE SECTION DEPENDS PROVIDES CONFLICTS USERID VARIANT DEFAULT_VARIANT URL PKGARCH
STAGED_TEXTS:=description conffiles preinst postinst prerm postrm
PACKAGES:=

.PHONY: stage compile
.DEFAULT_GOAL:=stage

# $(1): package
define BuildPackage
  $(foreach field,$(STAGED_FIELDS),$(eval $(field):=))
  $(eval $(Package/$(1)))
  $(if $(and $(TITLE),$(SECTION),$(CATEGORY)),,$(error $(1): TITLE, SECTION or CATEGORY is missing))
  $(if $(Package/$(1)/description),,$(error $(1): no description))
  $(foreach field,$(STAGED_FIELDS),$(eval $(field)_$(1):=$$($(field))))
  $(eval PACKAGES+=$(1))

  stage: stage-$(1)
  .PHONY: stage-$(1) room-$(1)
  room-$(1):
	rm -rf $(OUT)/$(1)
	mkdir -p $(OUT)/$(1)/root $(OUT)/$(1)/fields
  # make expands all of a recipe, and writes these files, before it runs the first line.
  stage-$(1): room-$(1)
	$$(foreach field,$(STAGED_FIELDS),$$(file >$(OUT)/$(1)/fields/$$(field),$$($$(field)_$(1))))
	$$(foreach field,VERSION RELEASE LICENSE MAINTAINER,$$(file >$(OUT)/$(1)/fields/$$(field),$$(PKG_$$(field))))
	$$(foreach text,$(STAGED_TEXTS),$$(file >$(OUT)/$(1)/fields/$$(text),$$(Package/$(1)/$$(text))))
	$(call Package/$(1)/install,$(OUT)/$(1)/root)
endef

# What the build would run, for the eyes of a test.
compile:
	$(Build/Compile)
