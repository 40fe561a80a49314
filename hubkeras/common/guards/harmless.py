"""Operations that compute from their inputs alone, or change nothing but variables and random states.

Not here: what reads or writes files, runs Python, reaches the network or other machines, prints (`PrintV2` may print to
a file), and all custom operations. A name that is missing makes a SavedModel unsafe, never the other way round.
"""

_ARITHMETIC = """
    Abs Acos Acosh Add AddN AddV2 AccumulateNV2 Asin Asinh Atan Atan2 Atanh BesselI0e BesselI1e Ceil ClipByValue Complex
    ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp Digamma Div DivNoNan Erf Erfc Erfinv Exp Expm1
    Floor FloorDiv FloorMod Igamma Igammac Imag Inv InvGrad Lgamma LinSpace Log Log1p Maximum Minimum Mod Mul MulNoNan
    Ndtri Neg NextAfter Polygamma Pow Range Real RealDiv Reciprocal ReciprocalGrad Rint Round Rsqrt RsqrtGrad Sigmoid
    SigmoidGrad Sign Sin Sinh Sqrt SqrtGrad Square SquaredDifference Sub Tan Tanh TanhGrad TruncateDiv TruncateMod
    Xdivy Xlog1py Xlogy Zeta
"""
_COMPARISON = """
    ApproximateEqual Bitcast Cast Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd LogicalNot
    LogicalOr NotEqual Select SelectV2 BitwiseAnd BitwiseOr BitwiseXor Invert LeftShift RightShift
"""
_REDUCTION = """
    All Any ArgMax ArgMin Bincount DenseBincount EuclideanNorm L2Loss Max Mean Min Prod SegmentMax SegmentMean
    SegmentMin SegmentProd SegmentSum SparseSegmentMean SparseSegmentSum Sum TopK TopKV2 UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum InTopK InTopKV2
"""
_SHAPE = """
    BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Concat ConcatOffset ConcatV2
    DepthToSpace Diag DiagPart DynamicPartition DynamicStitch EnsureShape ExpandDims Fill Gather GatherNd GatherV2
    InvertPermutation MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
    MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad MirrorPadGrad OneHot OnesLike Pack Pad PadV2
    ParallelConcat ParallelDynamicStitch Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
    ScatterNdNonAliasingAdd Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth SparseToDense Split SplitV
    Squeeze StridedSlice StridedSliceGrad TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
    UpperBound LowerBound Where ZerosLike
"""
_LINEAR = """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Einsum MatMul MatrixDeterminant MatrixInverse MatrixSolve
    MatrixTriangularSolve Qr SelfAdjointEigV2 Svd
"""
_NEURAL = """
    AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BiasAdd BiasAddGrad BiasAddV1 Conv Conv2D Conv2DBackpropFilter
    Conv2DBackpropFilterV2 Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D Conv3DBackpropFilterV2
    Conv3DBackpropInputV2 DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
    DepthwiseConv2dNativeBackpropInput Dilation2D Elu EluGrad FractionalAvgPool FractionalMaxPool FusedBatchNorm
    FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D
    LeakyRelu LeakyReluGrad LogSoftmax LRN LRNGrad MaxPool MaxPool3D MaxPoolGrad MaxPoolGradV2 MaxPoolGradWithArgmax
    MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Relu6Grad ReluGrad Selu SeluGrad Softmax SoftmaxCrossEntropyWithLogits
    Softplus SoftplusGrad Softsign SoftsignGrad SparseSoftmaxCrossEntropyWithLogits
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsGradient
    FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
"""
_IMAGES = """
    AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize DecodeAndCropJpeg DecodeBmp
    DecodeGif DecodeImage DecodeJpeg DecodePng ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches HSVToRGB
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBicubicGrad ResizeBilinear
    ResizeBilinearGrad ResizeNearestNeighbor ResizeNearestNeighborGrad SampleDistortedBoundingBox
    SampleDistortedBoundingBoxV2 ScaleAndTranslate
"""
_RANDOM = """
    Multinomial RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    RngReadAndSkip RngSkip StatefulRandomBinomial StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
    StatefulUniformFullInt StatefulUniformInt StatelessMultinomial StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
"""
_TEXT = """
    AsString RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin StringLength
    StringLower StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast
    StringToHashBucketStrong StringToNumber StringUpper Substr UnicodeDecode UnicodeEncode
"""
_CALLS = """
    Case Enter Exit If LoopCond Merge NextIteration PartitionedCall RefEnter RefExit RefIdentity RefMerge
    RefNextIteration RefSwitch StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch SymbolicGradient
    While FakeParam
"""
_PASSING = """
    Assert CheckNumerics CheckNumericsV2 Const GuaranteeConst Identity IdentityN NoOp Placeholder PlaceholderV2
    PlaceholderWithDefault PreventGradient Snapshot StopGradient ControlTrigger EmptyTensorList TensorListConcatV2
    TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
    TensorListPushBack TensorListReserve TensorListResize TensorListSetItem TensorListSplit TensorListStack
    TensorArrayCloseV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArrayV3
    TensorArrayWriteV3
"""
_VARIABLES = """
    Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp DisableCopyOnRead
    IsVariableInitialized ReadVariableOp ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad
    ResourceApplyAdagradV2 ResourceApplyAdam ResourceApplyAdamWithAmsgrad ResourceApplyCenteredRMSProp
    ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum
    ResourceApplyRMSProp ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate
    ResourceStridedSliceAssign VarIsInitializedOp VariableShape
"""

HARMLESS = frozenset(
    " ".join(
        (
            *(_ARITHMETIC, _COMPARISON, _REDUCTION, _SHAPE, _LINEAR, _NEURAL, _IMAGES, _RANDOM, _TEXT, _CALLS),
            *(_PASSING, _VARIABLES),
        )
    ).split()
)
"""Allowed in the main graph and in functions."""

COMPILED = HARMLESS - set(_TEXT.split()) - {name for name in HARMLESS if name.startswith("Decode")}
"""Those that XLA may compile; it has no kernels for texts and files in memory."""

CREATING_VARIABLES = frozenset({"VarHandleOp", "Variable", "VariableV2"})
"""Allowed in the main graph. In a function they would reach other variables of the process by name."""

READING = frozenset({"RestoreV2"})
WRITING = frozenset({"SaveV2", "MergeV2Checkpoints", "ShardedFilename"})
"""What TensorFlow's saver adds, with `READING`; allowed where only the saver itself can run them."""
