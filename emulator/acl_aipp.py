"""The calls for dynamic AIPP that sessions have since 2023. No emulated OM has an input of that kind."""

from emulator.acl_device import GENERAL_FAILURE


def _take(value: object, /) -> int:  # noqa: ARG001 - as the signature of the real one
    """Take a setting and return 0, as the real one does whatever the model; nothing reads it."""
    return 0


class DynamicAippSettings:
    """What a program finds when it asks for dynamic AIPP: no input, and setters that accept."""

    def get_dym_aipp_input_exist(self) -> int:
        """Return the number of inputs with dynamic AIPP: none."""
        return 0

    def check_dym_aipp_input_exist(self) -> int:
        """Refuse: there is no input with dynamic AIPP; raises RuntimeError."""
        raise RuntimeError(GENERAL_FAILURE)

    def set_dym_aipp_info_set(self) -> int:
        """Return 0: all is set on all inputs of that kind."""
        return 0

    aipp_set_max_batch_size = staticmethod(_take)  #: an int
    aipp_set_input_format = staticmethod(_take)  #: for example `RGB888_U8`
    aipp_set_src_image_size = staticmethod(_take)  #: width and height
    aipp_set_rbuv_swap_switch = staticmethod(_take)  #: 0 or 1
    aipp_set_ax_swap_switch = staticmethod(_take)  #: 0 or 1
    aipp_set_csc_params = staticmethod(_take)  #: switch, matrix and biases: 16 ints
    aipp_set_crop_params = staticmethod(_take)  #: switch, left, top, width, height
    aipp_set_padding_params = staticmethod(_take)  #: switch, top, bottom, left, right
    aipp_set_dtc_pixel_mean = staticmethod(_take)  #: four ints
    aipp_set_dtc_pixel_min = staticmethod(_take)  #: four floats
    aipp_set_pixel_var_reci = staticmethod(_take)  #: four floats
