//! Calls in a stream of operations that Burn fuses: they take their place in its order, and the
//! operations around them are still joined.

use std::fmt;
use std::marker::PhantomData;

use burn::tensor::DType;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::stream::{Operation, StreamId};
use burn_fusion::{Fusion, FusionBackend, FusionRuntime, FusionTensor};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

use super::call::{Call, Launch, Meta};

type Runtime<R> = <CubeBackend<R> as FusionBackend>::FusionRuntime;

impl<R: CubeRuntime> Launch for Fusion<CubeBackend<R>> {
    fn launch<K: Call>(
        call: K,
        inputs: Vec<FusionTensor<Runtime<R>>>,
    ) -> Vec<FusionTensor<Runtime<R>>> {
        let client = inputs[0].client.clone();
        let metas: Vec<_> = inputs.iter().map(Meta::of).collect();
        let outputs: Vec<_> = call
            .outputs(&metas)
            .into_iter()
            .map(|meta| TensorIr::uninit(client.create_empty_handle(), meta.shape, meta.dtype))
            .collect();
        let inputs: Vec<_> = inputs.into_iter().map(FusionTensor::into_ir).collect();
        let ir = CustomOpIr::new(K::NAME, &inputs, &outputs);
        let pending = Pending::<K, R> { call, ir: ir.clone(), runtime: PhantomData };
        client.register(StreamId::current(), OperationIr::Custom(ir), pending)
    }
}

/// A call whose inputs may not exist yet.
struct Pending<K, R> {
    call: K,
    ir: CustomOpIr,
    runtime: PhantomData<fn() -> R>,
}

impl<K: Call, R: CubeRuntime> Operation<Runtime<R>> for Pending<K, R> {
    fn execute(&self, handles: &mut HandleContainer<<Runtime<R> as FusionRuntime>::FusionHandle>) {
        let take = |input| handles.get_float_tensor::<CubeBackend<R>>(input);
        let inputs = self.ir.inputs.iter().map(take).collect();
        let outputs = self.call.run(inputs);
        assert_eq!(outputs.len(), self.ir.outputs.len(), "{}", K::NAME);
        for (ir, output) in self.ir.outputs.iter().zip(outputs) {
            match output.dtype {
                DType::I32 => handles.register_int_tensor::<CubeBackend<R>>(&ir.id, output),
                _ => handles.register_float_tensor::<CubeBackend<R>>(&ir.id, output),
            }
        }
    }
}

impl<K: Call, R> fmt::Debug for Pending<K, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pending").field("call", &self.call).field("ir", &self.ir).finish()
    }
}
