# made from dk.fbs by runtime/schema/python_reader.py, do not modify
import flatbuffers
from flatbuffers import number_types as _t

_u = _t.UOffsetTFlags.py_type

class Attr(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Attr()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Id(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Uint8Flags, o + self._tab.Pos)
        return 0

    def I(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Int64Flags, o + self._tab.Pos)
        return 0

    def F(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.Get(_t.Float64Flags, o + self._tab.Pos)
        return 0.0

    def Ints(self, j):
        o = _u(self._tab.Offset(10))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int64Flags, a + _u(j * 8))
        return 0

    def IntsLength(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Floats(self, j):
        o = _u(self._tab.Offset(12))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Float64Flags, a + _u(j * 8))
        return 0

    def FloatsLength(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def S(self):
        o = _u(self._tab.Offset(14))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

def AttrStart(builder):
    builder.StartObject(6)

def AttrAddId(builder, id):
    builder.PrependUint8Slot(0, id, 0)

def AttrAddI(builder, i):
    builder.PrependInt64Slot(1, i, 0)

def AttrAddF(builder, f):
    builder.PrependFloat64Slot(2, f, 0.0)

def AttrAddInts(builder, ints):
    builder.PrependUOffsetTRelativeSlot(3, _u(ints), 0)

def AttrAddFloats(builder, floats):
    builder.PrependUOffsetTRelativeSlot(4, _u(floats), 0)

def AttrAddS(builder, s):
    builder.PrependUOffsetTRelativeSlot(5, _u(s), 0)

def AttrEnd(builder):
    return builder.EndObject()

class Node(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Node()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Op(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Uint16Flags, o + self._tab.Pos)
        return 0

    def Inputs(self, j):
        o = _u(self._tab.Offset(6))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int32Flags, a + _u(j * 4))
        return 0

    def InputsLength(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Outputs(self, j):
        o = _u(self._tab.Offset(8))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int32Flags, a + _u(j * 4))
        return 0

    def OutputsLength(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Attrs(self, j):
        o = _u(self._tab.Offset(10))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Attr()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def AttrsLength(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Name(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

def NodeStart(builder):
    builder.StartObject(5)

def NodeAddOp(builder, op):
    builder.PrependUint16Slot(0, op, 0)

def NodeAddInputs(builder, inputs):
    builder.PrependUOffsetTRelativeSlot(1, _u(inputs), 0)

def NodeAddOutputs(builder, outputs):
    builder.PrependUOffsetTRelativeSlot(2, _u(outputs), 0)

def NodeAddAttrs(builder, attrs):
    builder.PrependUOffsetTRelativeSlot(3, _u(attrs), 0)

def NodeAddName(builder, name):
    builder.PrependUOffsetTRelativeSlot(4, _u(name), 0)

def NodeEnd(builder):
    return builder.EndObject()

class Input(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Input()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Value(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Int32Flags, o + self._tab.Pos)
        return 0

    def Name(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

    def Dtype(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.Get(_t.Uint8Flags, o + self._tab.Pos)
        return 0

    def Dims(self, j):
        o = _u(self._tab.Offset(10))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int64Flags, a + _u(j * 8))
        return 0

    def DimsLength(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def NoRank(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return bool(self._tab.Get(_t.BoolFlags, o + self._tab.Pos))
        return False

def InputStart(builder):
    builder.StartObject(5)

def InputAddValue(builder, value):
    builder.PrependInt32Slot(0, value, 0)

def InputAddName(builder, name):
    builder.PrependUOffsetTRelativeSlot(1, _u(name), 0)

def InputAddDtype(builder, dtype):
    builder.PrependUint8Slot(2, dtype, 0)

def InputAddDims(builder, dims):
    builder.PrependUOffsetTRelativeSlot(3, _u(dims), 0)

def InputAddNoRank(builder, noRank):
    builder.PrependBoolSlot(4, noRank, 0)

def InputEnd(builder):
    return builder.EndObject()

class Quant(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Quant()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Value(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Int32Flags, o + self._tab.Pos)
        return 0

    def Scale(self, j):
        o = _u(self._tab.Offset(6))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Float32Flags, a + _u(j * 4))
        return 0

    def ScaleLength(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def ZeroPoint(self, j):
        o = _u(self._tab.Offset(8))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int32Flags, a + _u(j * 4))
        return 0

    def ZeroPointLength(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Axis(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.Get(_t.Int32Flags, o + self._tab.Pos)
        return -1

def QuantStart(builder):
    builder.StartObject(4)

def QuantAddValue(builder, value):
    builder.PrependInt32Slot(0, value, 0)

def QuantAddScale(builder, scale):
    builder.PrependUOffsetTRelativeSlot(1, _u(scale), 0)

def QuantAddZeroPoint(builder, zeroPoint):
    builder.PrependUOffsetTRelativeSlot(2, _u(zeroPoint), 0)

def QuantAddAxis(builder, axis):
    builder.PrependInt32Slot(3, axis, -1)

def QuantEnd(builder):
    return builder.EndObject()

class Constant(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Constant()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Value(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Int32Flags, o + self._tab.Pos)
        return 0

    def Dtype(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Uint8Flags, o + self._tab.Pos)
        return 0

    def Dims(self, j):
        o = _u(self._tab.Offset(8))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int64Flags, a + _u(j * 8))
        return 0

    def DimsLength(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Offset(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def Size(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

def ConstantStart(builder):
    builder.StartObject(5)

def ConstantAddValue(builder, value):
    builder.PrependInt32Slot(0, value, 0)

def ConstantAddDtype(builder, dtype):
    builder.PrependUint8Slot(1, dtype, 0)

def ConstantAddDims(builder, dims):
    builder.PrependUOffsetTRelativeSlot(2, _u(dims), 0)

def ConstantAddOffset(builder, offset):
    builder.PrependUint64Slot(3, offset, 0)

def ConstantAddSize(builder, size):
    builder.PrependUint64Slot(4, size, 0)

def ConstantEnd(builder):
    return builder.EndObject()

class GraphDef(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = GraphDef()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Name(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

    def NValues(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Uint32Flags, o + self._tab.Pos)
        return 0

    def Inputs(self, j):
        o = _u(self._tab.Offset(8))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Input()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def InputsLength(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Outputs(self, j):
        o = _u(self._tab.Offset(10))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int32Flags, a + _u(j * 4))
        return 0

    def OutputsLength(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def OutputNames(self, j):
        o = _u(self._tab.Offset(12))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.String(a + _u(j * 4))
        return ""

    def OutputNamesLength(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Constants(self, j):
        o = _u(self._tab.Offset(14))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Constant()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def ConstantsLength(self):
        o = _u(self._tab.Offset(14))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Nodes(self, j):
        o = _u(self._tab.Offset(16))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Node()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def NodesLength(self):
        o = _u(self._tab.Offset(16))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def ValueNames(self, j):
        o = _u(self._tab.Offset(18))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.String(a + _u(j * 4))
        return ""

    def ValueNamesLength(self):
        o = _u(self._tab.Offset(18))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Quants(self, j):
        o = _u(self._tab.Offset(20))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Quant()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def QuantsLength(self):
        o = _u(self._tab.Offset(20))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

def GraphDefStart(builder):
    builder.StartObject(9)

def GraphDefAddName(builder, name):
    builder.PrependUOffsetTRelativeSlot(0, _u(name), 0)

def GraphDefAddNValues(builder, nValues):
    builder.PrependUint32Slot(1, nValues, 0)

def GraphDefAddInputs(builder, inputs):
    builder.PrependUOffsetTRelativeSlot(2, _u(inputs), 0)

def GraphDefAddOutputs(builder, outputs):
    builder.PrependUOffsetTRelativeSlot(3, _u(outputs), 0)

def GraphDefAddOutputNames(builder, outputNames):
    builder.PrependUOffsetTRelativeSlot(4, _u(outputNames), 0)

def GraphDefAddConstants(builder, constants):
    builder.PrependUOffsetTRelativeSlot(5, _u(constants), 0)

def GraphDefAddNodes(builder, nodes):
    builder.PrependUOffsetTRelativeSlot(6, _u(nodes), 0)

def GraphDefAddValueNames(builder, valueNames):
    builder.PrependUOffsetTRelativeSlot(7, _u(valueNames), 0)

def GraphDefAddQuants(builder, quants):
    builder.PrependUOffsetTRelativeSlot(8, _u(quants), 0)

def GraphDefEnd(builder):
    return builder.EndObject()

class Variable(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Variable()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Name(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

    def Dtype(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Uint8Flags, o + self._tab.Pos)
        return 0

    def Dims(self, j):
        o = _u(self._tab.Offset(8))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Int64Flags, a + _u(j * 8))
        return 0

    def DimsLength(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Offset(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def Size(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

def VariableStart(builder):
    builder.StartObject(5)

def VariableAddName(builder, name):
    builder.PrependUOffsetTRelativeSlot(0, _u(name), 0)

def VariableAddDtype(builder, dtype):
    builder.PrependUint8Slot(1, dtype, 0)

def VariableAddDims(builder, dims):
    builder.PrependUOffsetTRelativeSlot(2, _u(dims), 0)

def VariableAddOffset(builder, offset):
    builder.PrependUint64Slot(3, offset, 0)

def VariableAddSize(builder, size):
    builder.PrependUint64Slot(4, size, 0)

def VariableEnd(builder):
    return builder.EndObject()

class Signature(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Signature()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Name(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

    def Graph(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Uint32Flags, o + self._tab.Pos)
        return 0

def SignatureStart(builder):
    builder.StartObject(2)

def SignatureAddName(builder, name):
    builder.PrependUOffsetTRelativeSlot(0, _u(name), 0)

def SignatureAddGraph(builder, graph):
    builder.PrependUint32Slot(1, graph, 0)

def SignatureEnd(builder):
    return builder.EndObject()

class Meta(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Meta()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def Key(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

    def Value(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

def MetaStart(builder):
    builder.StartObject(2)

def MetaAddKey(builder, key):
    builder.PrependUOffsetTRelativeSlot(0, _u(key), 0)

def MetaAddValue(builder, value):
    builder.PrependUOffsetTRelativeSlot(1, _u(value), 0)

def MetaEnd(builder):
    return builder.EndObject()

class Model(object):
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = Model()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)

    def FormatVersion(self):
        o = _u(self._tab.Offset(4))
        if o != 0:
            return self._tab.Get(_t.Uint32Flags, o + self._tab.Pos)
        return 0

    def HeaderSize(self):
        o = _u(self._tab.Offset(6))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def HeaderCrc(self):
        o = _u(self._tab.Offset(8))
        if o != 0:
            return self._tab.Get(_t.Uint32Flags, o + self._tab.Pos)
        return 0

    def WeightsOffset(self):
        o = _u(self._tab.Offset(10))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def WeightsSize(self):
        o = _u(self._tab.Offset(12))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def CrcChunk(self):
        o = _u(self._tab.Offset(14))
        if o != 0:
            return self._tab.Get(_t.Uint64Flags, o + self._tab.Pos)
        return 0

    def WeightsCrcs(self, j):
        o = _u(self._tab.Offset(16))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.Get(_t.Uint32Flags, a + _u(j * 4))
        return 0

    def WeightsCrcsLength(self):
        o = _u(self._tab.Offset(16))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Symbols(self, j):
        o = _u(self._tab.Offset(18))
        if o != 0:
            a = self._tab.Vector(o)
            return self._tab.String(a + _u(j * 4))
        return ""

    def SymbolsLength(self):
        o = _u(self._tab.Offset(18))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Graphs(self, j):
        o = _u(self._tab.Offset(20))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = GraphDef()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def GraphsLength(self):
        o = _u(self._tab.Offset(20))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Signatures(self, j):
        o = _u(self._tab.Offset(22))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Signature()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def SignaturesLength(self):
        o = _u(self._tab.Offset(22))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Variables(self, j):
        o = _u(self._tab.Offset(24))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Variable()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def VariablesLength(self):
        o = _u(self._tab.Offset(24))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Metadata(self, j):
        o = _u(self._tab.Offset(26))
        if o != 0:
            x = self._tab.Vector(o)
            x += _u(j) * 4
            x = self._tab.Indirect(x)
            obj = Meta()
            obj.Init(self._tab.Bytes, x)
            return obj
        return None

    def MetadataLength(self):
        o = _u(self._tab.Offset(26))
        if o != 0:
            return self._tab.VectorLen(o)
        return 0

    def Producer(self):
        o = _u(self._tab.Offset(28))
        if o != 0:
            return self._tab.String(o + self._tab.Pos)
        return None

def ModelStart(builder):
    builder.StartObject(13)

def ModelAddFormatVersion(builder, formatVersion):
    builder.PrependUint32Slot(0, formatVersion, 0)

def ModelAddHeaderSize(builder, headerSize):
    builder.PrependUint64Slot(1, headerSize, 0)

def ModelAddHeaderCrc(builder, headerCrc):
    builder.PrependUint32Slot(2, headerCrc, 0)

def ModelAddWeightsOffset(builder, weightsOffset):
    builder.PrependUint64Slot(3, weightsOffset, 0)

def ModelAddWeightsSize(builder, weightsSize):
    builder.PrependUint64Slot(4, weightsSize, 0)

def ModelAddCrcChunk(builder, crcChunk):
    builder.PrependUint64Slot(5, crcChunk, 0)

def ModelAddWeightsCrcs(builder, weightsCrcs):
    builder.PrependUOffsetTRelativeSlot(6, _u(weightsCrcs), 0)

def ModelAddSymbols(builder, symbols):
    builder.PrependUOffsetTRelativeSlot(7, _u(symbols), 0)

def ModelAddGraphs(builder, graphs):
    builder.PrependUOffsetTRelativeSlot(8, _u(graphs), 0)

def ModelAddSignatures(builder, signatures):
    builder.PrependUOffsetTRelativeSlot(9, _u(signatures), 0)

def ModelAddVariables(builder, variables):
    builder.PrependUOffsetTRelativeSlot(10, _u(variables), 0)

def ModelAddMetadata(builder, metadata):
    builder.PrependUOffsetTRelativeSlot(11, _u(metadata), 0)

def ModelAddProducer(builder, producer):
    builder.PrependUOffsetTRelativeSlot(12, _u(producer), 0)

def ModelEnd(builder):
    return builder.EndObject()

